-- The schemas that an earlier attempt may have made; nothing of them was ever served from.
select quote_ident(nspname) as schema
  from pg_namespace
 where nspname in ('log', 'projection') or obj_description(oid, 'pg_namespace') = 'a projection of Portcullis'
