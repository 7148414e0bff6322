-- Which self-edits lowered the reward, and how many questions were lost and won?
WITH hurt AS (
    SELECT run, round, split, self_edit_id, problem_id, baseline_reward, reward, gain,
        uncertainty
    FROM scores WHERE gain < 0 AND starts_with(condition, 'round_')
),
baseline AS (
    SELECT run, round, split, question_id, correct
    FROM answers WHERE condition = 'no_adaptation' AND adapter_id IS NULL
    -- The first graded answer, where the question was asked again.
    QUALIFY row_number() OVER (
        PARTITION BY run, round, split, question_id ORDER BY correct IS NULL, repeat, answer_id
    ) = 1
),
changes AS (
    SELECT a.run, a.round, a.split, a.self_edit_id,
        count(*) FILTER (b.correct AND NOT a.correct) AS n_lost,
        count(*) FILTER (NOT b.correct AND a.correct) AS n_won
    FROM answers a
    SEMI JOIN hurt h ON h.run = a.run AND h.round = a.round AND h.self_edit_id = a.self_edit_id
    JOIN baseline b ON b.run = a.run AND b.split = a.split AND b.question_id = a.question_id
        AND b.round = CASE WHEN a.split = 'train' THEN a.round ELSE -1 END
    GROUP BY ALL
)
SELECT h.*, coalesce(c.n_lost, 0) AS n_lost, coalesce(c.n_won, 0) AS n_won, e.text
FROM hurt h
JOIN self_edits e USING (run, round, self_edit_id)
LEFT JOIN changes c ON c.run = h.run AND c.round = h.round AND c.split = h.split
    AND c.self_edit_id = h.self_edit_id
ORDER BY h.run, h.gain, h.self_edit_id
