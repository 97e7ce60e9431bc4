-- A page of workers in the order of their ids. What is null does not filter.
-- $1 after this id, $2 pool, $3 labels, $4 name, $5 the state at $7, $6 what can have been decided about a worker in that
-- state, $7 now, $8 rows, $9 how far workers of one name are counted. Each with the first position of those at which no
-- fence refuses what was issued to it.
select to_json(page)::text
  from (select w.*,
               (select coalesce(max(refused_below), 0)
                  from floor
                 where scope in ('everything', 'pool:' || w.pool, 'worker:' || w.id,
                                 'enrollment_secret:' || w.enrolled_by)) as refused_below,
               (select count(*)
                  from (select from worker namesake where namesake.name = w.name and namesake.member limit $9)
                    as counted) as name_shared_by
          from worker w
         where ($1::text is null or w.id > $1)
           and ($2::text is null or w.pool = $2)
           and ($3::text is null or w.labels @> $3::text::jsonb)
           -- Names of those who left the fleet are looked for by state only.
           and ($4::text is null or (w.name = $4 and (w.member or $5 in ('removed', 'rejected'))))
           and ($5::text is null or w.state = any ($6::text[]))
           and ($5::text is null or $5 <> 'expired' or w.expires_at <= $7)
           and ($5::text is null or $5 = case
                   when w.state in ('removed', 'rejected') then w.state
                   when w.state = 'isolated' and (w.isolated_until is null or w.isolated_until > $7) then w.state
                   when w.expires_at <= $7 then 'expired'
                   when w.state = 'pending' then w.state
                   else 'active'
               end)
         order by w.id
         limit $8) page
