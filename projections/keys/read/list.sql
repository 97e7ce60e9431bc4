-- A page of keys, oldest first. What is null does not filter.
-- $1 issued after this position, $2 worker, $3 operator, $4 only shared ones, $5 pool, $6 kind, $7 the state at $9, $8 what
-- can have been decided about a key in that state, $9 now, $10 rows, $11 how many workers all of them may name: rows past
-- that are only counted, by a null each. A key can have ten thousand workers, and a thousand such keys would be an answer
-- that nobody can take.
select case when named - own < $11::bigint or nth = 1 then row end
  from (select own,
               sum(own) over (order by issued) as named,
               row_number() over (order by issued) as nth,
               (to_jsonb(page) || jsonb_build_object('last_used_at',
                   (select used_at from projection.key_used used where used.key_id = page.id)))::text as row
          from (select k.*, greatest(coalesce(cardinality(k.sharers), 1), 1)::bigint as own
                  from key k
                 where ($1::bigint is null or k.issued > $1)
                   and ($2::text is null or k.worker = $2 or k.sharers @> array[$2])
                   and ($3::text is null or k.operator = $3)
                   and (not $4::boolean or k.shared)
                   and ($5::text is null or k.pool = $5)
                   and ($6::text is null or k.kind = $6)
                   and ($7::text is null or k.state = any ($8::text[]))
                   and ($7::text is null or $7 <> 'expired' or k.ends_at <= $9)
                   and ($7::text is null or $7 = case
                           when k.state = 'revoked' then k.state
                           when k.ends_at <= $9 then 'expired'
                           when k.state = 'superseded' then 'overlapping'
                           else 'live'
                       end)
                 order by k.issued
                 limit $10) page) counted
 order by nth
