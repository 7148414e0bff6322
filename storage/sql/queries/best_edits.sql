-- Which 20 self-edits of each run and split helped most?
WITH best AS (
    SELECT run, round, self_edit_id, split, problem_id, baseline_reward, reward, gain
    FROM scores
    WHERE gain IS NOT NULL AND starts_with(condition, 'round_')
    QUALIFY row_number() OVER (PARTITION BY run, split ORDER BY gain DESC, round, self_edit_id) <= 20
)
SELECT s.run, s.round, s.split, s.self_edit_id, s.problem_id, p.title,
    s.baseline_reward, s.reward, s.gain, x.kept, e.n_tokens, e.text
FROM best s
JOIN self_edits e USING (run, round, self_edit_id)
LEFT JOIN problems p ON p.run = s.run AND p.problem_id = s.problem_id
LEFT JOIN selections x ON x.run = s.run AND x.round = s.round AND x.self_edit_id = s.self_edit_id
ORDER BY s.run, s.split DESC, s.gain DESC, s.round, s.self_edit_id
