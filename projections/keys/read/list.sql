-- A page of keys, oldest first. What is null does not filter.
-- $1 issued after this position, $2 worker, $3 operator, $4 only shared ones, $5 pool, $6 kind, $7 the state at $9, $8 what
-- can have been decided about a key in that state, $9 now, $10 rows, $11 how many workers all of them may name: rows past
-- that are only counted, by a null each. A key can have ten thousand workers, and a thousand such keys would be an answer
-- that nobody can take.
--
-- A fence refuses a key that was issued below its floor; a shared one is fenced if that is so for all who have it.
select case when named - own < $11::bigint or nth = 1 then row end
  from (select own,
               sum(own) over (order by issued) as named,
               row_number() over (order by issued) as nth,
               (to_jsonb(page) || jsonb_build_object('last_used_at',
                   (select used_at from projection.key_used used where used.key_id = page.id)))::text as row
          from (select k.*, fences.fenced, greatest(coalesce(cardinality(k.sharers), 1), 1)::bigint as own
                  from key k
                  left join floor of_all on of_all.scope = 'everything'
                  left join floor of_pool on of_pool.scope = 'pool:' || k.pool
                  left join floor of_line on of_line.scope = 'enrollment_secret:' || k.enrolled_by
                  left join floor of_worker on of_worker.scope = 'worker:' || k.worker
                 cross join lateral (
                     select case
                                when k.state = 'refused' then true
                                when k.operator is not null then false
                                when k.sharers is null then k.issued < coalesce(greatest(
                                    of_all.refused_below, of_pool.refused_below, of_line.refused_below,
                                    of_worker.refused_below), 0)
                                else k.issued < coalesce(greatest(of_all.refused_below, of_pool.refused_below), 0)
                                  or not exists (
                                         select from unnest(k.sharers, k.sharers_by) as sharer (worker, enrolled_by)
                                          where k.issued >= coalesce(greatest(
                                              (select refused_below from floor where scope = 'worker:' || sharer.worker),
                                              (select refused_below from floor
                                                where scope = 'enrollment_secret:' || sharer.enrolled_by)), 0))
                            end as fenced) fences
                 where ($1::bigint is null or k.issued > $1)
                   and ($2::text is null or k.worker = $2 or k.sharers @> array[$2])
                   and ($3::text is null or k.operator = $3)
                   and (not $4::boolean or k.shared)
                   and ($5::text is null or k.pool = $5)
                   and ($6::text is null or k.kind = $6)
                   and ($7::text is null or k.state = any ($8::text[]))
                   and ($7::text is null or $7 <> 'expired' or k.ends_at <= $9)
                   -- Where no fence was ever raised, no key is looked at.
                   and ($7::text is null or $7 <> 'fenced' or exists (select from floor))
                   and ($7::text is null or $7 = case
                           when k.state = 'revoked' then k.state
                           when k.ends_at <= $9 then 'expired'
                           when fences.fenced then 'fenced'
                           when k.state = 'superseded' then 'overlapping'
                           else 'live'
                       end)
                 order by k.issued
                 limit $10) page) counted
 order by nth
