-- Workers, with what was decided about each; what time makes of that is asked for when it is read.
create table worker (
    id             text        collate "C" not null,
    pool           text        collate "C" not null,
    name           text,
    labels         jsonb       not null,
    state          text        not null, -- pending, active, isolated, rejected, removed
    isolated_until timestamptz,
    expires_at     timestamptz,
    member         boolean     not null, -- of the fleet: neither rejected nor removed
    created_at     timestamptz not null,
    created        bigint      not null, -- the position of its `worker.created`
    enrolled_by    text        collate "C",
    keys_issued    bigint[]    not null, -- of each key that nobody has ended: the position at which it was issued
    keys_end_at    timestamptz[] not null, -- and when it ends by itself, or null
    shared_keys    boolean     not null,
    constraint worker_pkey primary key (id)
);
