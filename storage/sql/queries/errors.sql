-- What failed, where, and why?
SELECT run, round, 'sample' AS stage, self_edit_id AS unit, problem_id, error
FROM self_edits WHERE error IS NOT NULL
UNION ALL
SELECT run, round, 'finetune', adapter_id, problem_id, error FROM adapters WHERE error IS NOT NULL
UNION ALL
SELECT run, round, 'evaluate', answer_id, problem_id, error FROM answers WHERE error IS NOT NULL
UNION ALL
SELECT run, round, stage, label || ' shard ' || shard, NULL, error
FROM stages WHERE error IS NOT NULL AND ended_at IS NOT NULL -- Those that were stopped are wasted work.
ORDER BY ALL
