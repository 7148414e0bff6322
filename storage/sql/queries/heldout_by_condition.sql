-- How accurate is each condition on the held-out problems?
WITH reported AS (
    SELECT * FROM answers
    WHERE split = 'heldout' AND (round = -1 OR starts_with(condition, 'round_'))
),
per_problem AS (
    SELECT run, condition, problem_id, avg(correct::DOUBLE) AS accuracy,
        count(DISTINCT question_id) AS n_questions, count(correct) AS n_answers,
        count(error) AS n_errors
    FROM reported GROUP BY ALL
)
SELECT run, condition,
    count(accuracy) AS n_problems,
    sum(n_questions)::BIGINT AS n_questions,
    sum(n_answers)::BIGINT AS n_answers,
    sum(n_errors)::BIGINT AS n_errors,
    avg(accuracy) AS accuracy,
    nullif(stddev_samp(accuracy), 0) / sqrt(count(accuracy)) AS standard_error
FROM per_problem
GROUP BY run, condition
ORDER BY run, condition
