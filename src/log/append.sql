-- Moves the head from where the writer believes it to be and adds the whole batch, or does nothing at all.
--
-- One statement, so one round trip and one flush. Every part reads from `moved`, which has a row only if the head was at
-- the expected version: a batch can neither be half in the log nor be in it twice.
with moved as (
    update log.head
       set version = $1 + 1, next_position = $2, mac = $3, merkle_root = $4, frontier = $5, recorded_at = $6
     where version = $1
    returning next_position
),
events as (
    insert into log.event
        (position, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind, subject_id, pool, actor, incident, command_id)
    select e.*
      from unnest($7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[], $11::timestamptz[], $12::text[], $13::integer[],
                  $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::uuid[]) as e
     cross join moved
),
commands as (
    insert into log.command (command_id, fingerprint, position, recorded_at, outcome)
    select c.id, c.fingerprint, c.position, $6, c.outcome
      from unnest($20::uuid[], $21::bytea[], $22::bigint[], $23::bytea[]) as c (id, fingerprint, position, outcome)
     cross join moved
),
sealed as (
    insert into log.sealed_outcome (command_id, sealed, expires_at)
    select s.id, s.sealed, s.expires_at
      from unnest($24::uuid[], $25::bytea[], $26::timestamptz[]) as s (id, sealed, expires_at)
     cross join moved
)
select pg_notify('portcullis_log', next_position::text) from moved
