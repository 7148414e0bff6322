-- How good are the training self-edits of each round?
WITH best AS (
    SELECT run, round, avg(reward) AS best_reward
    FROM (
        SELECT run, round, problem_id, max(reward) AS reward
        FROM scores WHERE split = 'train' AND unusable IS NULL GROUP BY ALL
    ) GROUP BY ALL
),
kept AS (
    SELECT run, round, count(*) FILTER (kept) AS n_kept FROM selections GROUP BY ALL
),
written AS (
    SELECT run, round, count(unusable) AS n_unusable,
        count(*) FILTER (finish_reason = 'length') AS n_cut
    FROM self_edits WHERE split = 'train' GROUP BY ALL
)
SELECT run, round,
    count(*) AS n_self_edits,
    count(reward) AS n_scored,
    any_value(n_unusable) AS n_unusable,
    any_value(n_cut) AS n_cut,
    any_value(reward_name) AS reward_name,
    avg(baseline_reward) AS mean_baseline,
    avg(reward) AS mean_reward,
    avg(gain) AS mean_gain,
    avg((gain > 0)::INTEGER) AS share_helped,
    any_value(best_reward) AS mean_best_reward,
    coalesce(any_value(n_kept), 0) AS n_kept
FROM scores
LEFT JOIN best USING (run, round)
LEFT JOIN kept USING (run, round)
LEFT JOIN written USING (run, round)
WHERE split = 'train'
GROUP BY run, round
ORDER BY run, round
