-- Which self-edits lowered the accuracy, and how many questions were lost and won?
WITH baseline AS (
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
    JOIN baseline b ON b.run = a.run AND b.split = a.split AND b.question_id = a.question_id
        AND b.round = CASE WHEN a.split = 'train' THEN a.round ELSE -1 END
    WHERE a.self_edit_id IS NOT NULL
    GROUP BY ALL
)
SELECT s.run, s.round, s.split, s.self_edit_id, s.problem_id,
    s.baseline_accuracy, s.adapter_accuracy, s.gain, s.uncertainty,
    coalesce(c.n_lost, 0) AS n_lost, coalesce(c.n_won, 0) AS n_won, e.text
FROM scores s
JOIN self_edits e USING (run, round, self_edit_id)
LEFT JOIN changes c ON c.run = s.run AND c.round = s.round AND c.split = s.split
    AND c.self_edit_id = s.self_edit_id
WHERE s.gain < 0 AND starts_with(s.condition, 'round_')
ORDER BY s.run, s.gain, s.self_edit_id
