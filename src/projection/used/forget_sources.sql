-- Of each of these keys, all but the $2 newest addresses give way, and are counted. The rows of `key_used` were locked by
-- the statement before, in one order: nobody else forgets of the same keys at the same time.
with ranked as (
    select key_id, address, row_number() over (partition by key_id order by last_seen_at desc, address) as nth
      from projection.key_source
     where key_id = any($1)
), gone as (
    delete from projection.key_source source
     using ranked
     where ranked.nth > $2 and source.key_id = ranked.key_id and source.address = ranked.address
    returning source.key_id
)
update projection.key_used used
   set sources_forgotten = used.sources_forgotten + gone.addresses
  from (select key_id, count(*) as addresses from gone group by key_id) gone
 where used.key_id = gone.key_id
