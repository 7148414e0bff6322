-- What was answered to each question before and after training on a self-edit?
WITH baseline AS (
    SELECT run, round, split, question_id, text, correct
    FROM answers WHERE condition = 'no_adaptation' AND adapter_id IS NULL
    -- The first graded answer, where the question was asked again.
    QUALIFY row_number() OVER (
        PARTITION BY run, round, split, question_id ORDER BY correct IS NULL, repeat, answer_id
    ) = 1
)
SELECT a.run, a.round, a.split, a.condition, a.problem_id, a.self_edit_id, a.repeat,
    a.question_id, q.prompt, q.gold,
    b.text AS text_before, b.correct AS correct_before,
    a.text AS text_after, a.correct AS correct_after, a.error
FROM answers a
-- Training is measured against the round's own policy, held-out against the base model.
LEFT JOIN baseline b ON b.run = a.run AND b.split = a.split AND b.question_id = a.question_id
    AND b.round = CASE WHEN a.split = 'train' THEN a.round ELSE -1 END
LEFT JOIN questions q ON q.run = a.run AND q.question_id = a.question_id
WHERE a.self_edit_id IS NOT NULL
ORDER BY a.run, a.round, a.self_edit_id, a.repeat, q.question_index
