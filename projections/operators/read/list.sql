-- A page of operators in the order of their ids, after $1 if that is not null; $2 rows.
select to_json(operator)::text
  from operator
 where ($1::text is null or id > $1)
 order by id
 limit $2
