-- Which keys but these ($2) came from these addresses since $3: of each address the $4 that were seen last.
select key_id, address
  from unnest($1::inet[]) as asked (address)
 cross join lateral (
     select source.key_id, source.last_seen_at
       from projection.key_source source
      where source.address = asked.address and source.last_seen_at >= $3 and source.key_id <> all($2)
      order by source.last_seen_at desc
      limit $4
 ) seen
