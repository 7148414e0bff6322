-- How good are the self-edits that each prompt drew from each policy, round by round?
SELECT e.run, e.round, e.split, e.policy_id, e.prompt_id,
    count(*) AS n_self_edits,
    count(s.reward) AS n_scored,
    count(e.error) AS n_without_text,
    count(e.unusable) AS n_unusable,
    coalesce(sum(s.n_errors), 0)::BIGINT AS n_answers_lost,
    avg(s.baseline_reward) AS mean_baseline,
    avg(s.reward) AS mean_reward,
    avg(s.gain) AS mean_gain,
    avg((s.gain > 0)::INTEGER) AS share_helped,
    count(*) FILTER (x.kept) AS n_kept
FROM self_edits e
LEFT JOIN scores s USING (run, round, self_edit_id)
LEFT JOIN selections x USING (run, round, self_edit_id)
WHERE starts_with(e.condition, 'round_')
GROUP BY e.run, e.round, e.split, e.policy_id, e.prompt_id
ORDER BY e.run, e.round, e.split, e.policy_id, e.prompt_id
