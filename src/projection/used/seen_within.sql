-- Keys that were shown from within any of these ranges of addresses.
select distinct source.key_id
  from unnest($1::inet[], $2::inet[]) as asked (first, last)
  join projection.key_source source on source.address >= asked.first and source.address <= asked.last
