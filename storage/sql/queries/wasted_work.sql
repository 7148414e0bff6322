-- Which work was done in vain: executions that failed, were killed, or were repeated?
WITH last_signs AS (
    -- A killed execution has no end; its process lived at least until another one of it ended.
    SELECT run, host, pid, max(coalesce(ended_at, started_at)::TIMESTAMPTZ) AS alive_until
    FROM stages GROUP BY ALL
),
executions AS (
    SELECT s.*,
        row_number() OVER (
            PARTITION BY s.run, s.round, s.label, s.shard, s.error IS NULL ORDER BY s.started_at DESC, s.pid
        ) = 1 AND s.error IS NULL AS counts,
        coalesce(s.seconds, greatest(
            epoch(l.alive_until) - epoch(s.started_at::TIMESTAMPTZ), 0
        )) AS seconds_spent
    FROM stages s JOIN last_signs l USING (run, host, pid)
)
SELECT run, round, stage, label,
    count(*) FILTER (error IS NOT NULL AND ended_at IS NOT NULL) AS n_failed,
    count(*) FILTER (ended_at IS NULL) AS n_killed,
    count(*) FILTER (error IS NULL AND NOT counts) AS n_repeated,
    coalesce(sum(seconds_spent) FILTER (NOT counts), 0) AS seconds_wasted,
    coalesce(sum(seconds_spent) FILTER (counts), 0) AS seconds_used,
    coalesce(sum(n_tokens) FILTER (NOT counts), 0)::BIGINT AS tokens_wasted
FROM executions
GROUP BY run, round, stage, label
HAVING count(*) FILTER (NOT counts) > 0
ORDER BY run, seconds_wasted DESC, round, label
