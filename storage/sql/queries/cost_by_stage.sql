-- What did each stage of a run cost in time and tokens?
SELECT run, stage,
    count(*) AS n_executions,
    count(*) FILTER (error IS NOT NULL) AS n_failed,
    sum(n_units)::BIGINT AS n_units,
    sum(n_errors)::BIGINT AS n_errors,
    sum(n_tokens)::BIGINT AS n_tokens,
    coalesce(sum(seconds), 0) AS seconds,
    sum(seconds) / nullif(sum(n_units - coalesce(n_reused, 0)), 0) AS seconds_per_unit,
    sum(n_tokens) / nullif(sum(seconds), 0) AS tokens_per_second
FROM stages
GROUP BY run, stage
ORDER BY run, min(started_at)
