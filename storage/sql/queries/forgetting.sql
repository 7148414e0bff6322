-- How much of each passage of a sequence is forgotten while the later ones are learnt?
WITH last_steps AS (
    SELECT run, policy_id, max(step) AS step FROM continual GROUP BY ALL
)
SELECT l.run, l.policy_id, l.passage_index,
    b.accuracy AS before_learning,
    l.accuracy AS after_learning,
    e.accuracy AS at_the_end,
    l.accuracy - b.accuracy AS learnt,
    l.accuracy - e.accuracy AS forgotten,
    e.accuracy - b.accuracy AS left_at_the_end,
    f.step - l.step AS n_later_passages,
    l.n_sequences
FROM continual l
JOIN last_steps f USING (run, policy_id)
LEFT JOIN continual b ON b.run = l.run AND b.policy_id = l.policy_id AND b.step = 0
    AND b.passage_index = l.passage_index
LEFT JOIN continual e ON e.run = l.run AND e.policy_id = l.policy_id AND e.step = f.step
    AND e.passage_index = l.passage_index
WHERE l.step = l.passage_index + 1
ORDER BY l.run, l.policy_id, l.passage_index
