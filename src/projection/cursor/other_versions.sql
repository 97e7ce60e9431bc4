-- Where other versions of a projection are.
select schema_name from projection.cursor where name = $1 and schema_name <> $2
