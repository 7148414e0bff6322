-- How good are the training self-edits of each round?
WITH best AS (
    SELECT run, round, avg(accuracy) AS best_accuracy
    FROM (
        SELECT run, round, problem_id, max(adapter_accuracy) AS accuracy
        FROM scores WHERE split = 'train' GROUP BY ALL
    ) GROUP BY ALL
),
kept AS (
    SELECT run, round, count(*) FILTER (kept) AS n_kept FROM selections GROUP BY ALL
)
SELECT run, round,
    count(*) AS n_self_edits,
    count(adapter_accuracy) AS n_scored,
    avg(baseline_accuracy) AS mean_baseline,
    avg(adapter_accuracy) AS mean_accuracy,
    avg(gain) AS mean_gain,
    avg((gain > 0)::INTEGER) AS share_helped,
    any_value(best_accuracy) AS mean_best_accuracy,
    coalesce(any_value(n_kept), 0) AS n_kept
FROM scores
LEFT JOIN best USING (run, round)
LEFT JOIN kept USING (run, round)
WHERE split = 'train'
GROUP BY run, round
ORDER BY run, round
