-- From which policy was each policy trained, back to the base model?
WITH RECURSIVE distinct_policies AS (
    SELECT * FROM policies
    QUALIFY row_number() OVER (PARTITION BY run, policy_id ORDER BY round) = 1
),
lineage AS (
    SELECT run, policy_id, 0 AS depth, [policy_id] AS path
    FROM distinct_policies WHERE parent IS NULL
    UNION ALL
    SELECT p.run, p.policy_id, l.depth + 1, list_append(l.path, p.policy_id)
    FROM distinct_policies p
    JOIN lineage l ON l.run = p.run AND l.policy_id = p.parent
    -- Ids are digests, so no honest lineage has a circle; a damaged one must end too.
    WHERE NOT list_contains(l.path, p.policy_id)
)
SELECT p.run, p.round, p.policy_id, p.parent, l.depth, l.path, p.base_model, p.n_examples,
    p.n_steps, p.final_loss, p.uri
FROM distinct_policies p
LEFT JOIN lineage l USING (run, policy_id)
ORDER BY p.run, l.depth, p.policy_id
