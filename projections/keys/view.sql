-- Keys, each with whether a fence refuses it to all who have it. What is refused otherwise stands in `state` and the times.
select key.*,
       key.state = 'refused' or key.operator is null and not exists (
           select from unnest(coalesce(key.sharers, array[key.worker]),
                              coalesce(key.sharers_by, array[key.enrolled_by])) as sharer (worker, enrolled_by)
            where key.issued >= all (select refused_below
                                       from floor
                                      where scope in ('everything', 'pool:' || key.pool, 'worker:' || sharer.worker,
                                                      'enrollment_secret:' || sharer.enrolled_by))) as fenced
  from key
