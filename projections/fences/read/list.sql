-- A page of fences in the order of their scopes, after $1 if that is not null; $2 rows.
select to_json(fence)::text
  from fence
 where ($1::text is null or scope > $1)
 order by scope
 limit $2
