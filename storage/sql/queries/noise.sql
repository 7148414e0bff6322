-- How much of the difference in accuracy, whatever the reward is, between a problem's self-edits is real?
WITH repeats AS (
    SELECT run, round, split, problem_id, self_edit_id, repeat, avg(correct::DOUBLE) AS reward
    FROM answers
    WHERE self_edit_id IS NOT NULL AND correct IS NOT NULL AND starts_with(condition, 'round_')
    GROUP BY ALL
),
edits AS (
    SELECT run, round, split, problem_id, self_edit_id, count(*) AS n, avg(reward) AS mean,
        var_samp(reward) AS variance
    FROM repeats GROUP BY ALL
),
problems_of AS (
    SELECT run, round, split, problem_id, count(*) AS n_edits, min(n) AS fewest, max(n) AS most,
        avg(mean) AS mean, var_samp(mean) AS variance, max(mean) AS best
    FROM edits GROUP BY ALL
),
shapes AS (
    SELECT run, round, split, max(n_edits) AS n_edits, max(most) AS n_repeats
    FROM problems_of GROUP BY ALL
),
-- A problem with a missing reward is left out, so that all means are over the same numbers.
complete AS (
    SELECT p.*, s.n_repeats
    FROM problems_of p JOIN shapes s USING (run, round, split)
    WHERE p.n_edits = s.n_edits AND p.fewest = s.n_repeats
),
others AS (
    SELECT r.run, r.round, r.split, r.problem_id, r.self_edit_id, r.repeat, r.reward,
        -- Rounded, so that equal means in another order of summation are ties.
        round((e.mean * c.n_repeats - r.reward) / (c.n_repeats - 1), 9) AS mean_of_others
    FROM repeats r
    JOIN edits e USING (run, round, split, problem_id, self_edit_id)
    JOIN complete c USING (run, round, split, problem_id)
    WHERE c.n_repeats > 1
),
-- Best of K by all repeats but one, measured on that one; ties go to the earlier sample.
chosen AS (
    SELECT o.run, o.round, o.split, o.reward
    FROM others o LEFT JOIN self_edits s USING (run, round, self_edit_id)
    QUALIFY row_number() OVER (
        PARTITION BY o.run, o.round, o.split, o.problem_id, o.repeat
        ORDER BY o.mean_of_others DESC, s.sample_index, o.self_edit_id
    ) = 1
),
heldout AS (
    SELECT run, round, split, avg(reward) AS heldout_best FROM chosen GROUP BY ALL
),
-- One-way random effects within problems.
within AS (
    SELECT e.run, e.round, e.split, avg(e.variance) AS variance
    FROM edits e JOIN complete USING (run, round, split, problem_id) GROUP BY ALL
),
between_edits AS (
    SELECT run, round, split, count(*) AS n_problems, sum(n_edits)::BIGINT AS n_self_edits,
        any_value(n_repeats) AS n_repeats, avg(mean) AS mean, avg(variance) AS variance,
        avg(best) AS apparent_best
    FROM complete GROUP BY ALL
),
left_out AS (
    SELECT run, round, split, count(*) AS n_problems FROM problems_of GROUP BY ALL
),
parts AS (
    SELECT run, round, split, coalesce(b.n_problems, 0) AS n_problems,
        l.n_problems - coalesce(b.n_problems, 0) AS n_left_out,
        coalesce(b.n_self_edits, 0) AS n_self_edits, b.n_repeats AS repeats_per_edit,
        b.mean AS mean_accuracy, b.apparent_best, h.heldout_best,
        w.variance AS retraining, b.variance AS observed,
        -- Without repeats the noise is unknown, and then so is what is real.
        CASE WHEN w.variance IS NOT NULL AND b.variance IS NOT NULL
            THEN greatest(b.variance - w.variance / b.n_repeats, 0) END AS true_variance
    FROM left_out l
    LEFT JOIN between_edits b USING (run, round, split)
    LEFT JOIN within w USING (run, round, split)
    LEFT JOIN heldout h USING (run, round, split)
)
SELECT run, round, split, n_problems, n_left_out, n_self_edits, repeats_per_edit,
    sqrt(retraining) AS retraining_sd,
    sqrt(observed) AS observed_sd,
    sqrt(true_variance) AS true_sd,
    CASE WHEN true_variance = 0 THEN 0.0 ELSE true_variance / observed END AS reliability,
    mean_accuracy, apparent_best, heldout_best,
    CASE WHEN apparent_best - mean_accuracy > 1e-12
        THEN (apparent_best - heldout_best) / (apparent_best - mean_accuracy) END AS winners_curse
FROM parts
ORDER BY run, round, split
