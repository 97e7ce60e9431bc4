-- How many events a projection holds.
select position from projection.cursor where schema_name = $1
