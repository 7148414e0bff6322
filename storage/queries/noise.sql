-- How much of the difference between self-edits of a problem is real, how much is retraining noise?
WITH repeats AS (
    SELECT run, round, split, problem_id, self_edit_id, repeat, avg(correct::DOUBLE) AS accuracy
    FROM answers
    WHERE self_edit_id IS NOT NULL AND correct IS NOT NULL AND starts_with(condition, 'round_')
    GROUP BY ALL
),
edits AS (
    SELECT run, round, split, problem_id, self_edit_id, avg(accuracy) AS accuracy,
        count(*) AS n, coalesce(var_samp(accuracy), 0) * (count(*) - 1) AS squares
    FROM repeats GROUP BY ALL
),
problems_of AS (
    SELECT run, round, split, problem_id, count(*) AS n,
        coalesce(var_samp(accuracy), 0) * (count(*) - 1) AS squares
    FROM edits GROUP BY ALL
),
-- One-way random effects, pooled: repeats within an edit, edits within a problem.
within AS (
    SELECT run, round, split, count(*) AS n_self_edits, avg(1.0 / n) AS inverse_n,
        sum(squares) / nullif(sum(n - 1), 0) AS variance
    FROM edits GROUP BY ALL
),
between_edits AS (
    SELECT run, round, split, sum(squares) / nullif(sum(n - 1), 0) AS variance
    FROM problems_of GROUP BY ALL
),
parts AS (
    SELECT w.*, w.variance * inverse_n AS noise, b.variance AS observed,
        -- Without repeats the noise is unknown, and then so is what is real.
        CASE WHEN w.variance IS NOT NULL AND b.variance IS NOT NULL
            THEN greatest(b.variance - w.variance * inverse_n, 0) END AS true_variance
    FROM within w JOIN between_edits b USING (run, round, split)
)
SELECT run, round, split, n_self_edits,
    1.0 / inverse_n AS repeats_per_edit,
    sqrt(variance) AS retraining_sd,
    sqrt(observed) AS observed_sd,
    sqrt(true_variance) AS true_sd,
    true_variance / nullif(true_variance + noise, 0) AS reliability
FROM parts
ORDER BY run, round, split
