-- A page of enrollment secrets in the order of their ids, after $1 if that is not null; $2 rows.
select to_json(enrollment_secret)::text
  from enrollment_secret
 where ($1::text is null or id > $1)
 order by id
 limit $2
