-- A page of pools in the order of their ids, after $1 if that is not null; $2 rows.
select to_json(pool)::text
  from pool
 where ($1::text is null or id > $1)
 order by id
 limit $2
