-- What is in no backup: the schemas of others, and of the projections, which are made anew from the log and may be made and
-- removed at any moment; and the views on these. Names are quoted, as pg_dump wants those that are no pattern.
select 'exclude-schema' as option, quote_ident(nspname) as name
  from pg_namespace
 where nspname not in ('log', 'projection', 'public', 'information_schema') and nspname !~ '^pg_'
union all
select 'exclude-table', 'projection.' || quote_ident(relname)
  from pg_class
 where relnamespace = 'projection'::regnamespace and relkind = 'v' and relowner = 'portcullis_service'::regrole
