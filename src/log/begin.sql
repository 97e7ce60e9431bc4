-- A new log: its genesis and its empty head. Two services that start at once both try; one log comes of it.
with genesis as (
    insert into log.genesis (log_id, root_key_check, created_at) values ($1, $2, now())
    on conflict on constraint genesis_pkey do nothing
    returning log_id
)
insert into log.head (version, next_position, mac, merkle_root, frontier)
select 0, 0, $3, $4, ''::bytea from genesis
