-- Pools, removed ones too.
create table pool (
    id                text        collate "C" not null,
    description       text        not null,
    token_ttl_seconds bigint      not null,
    token_record      text        not null,
    audience          text        not null,
    scopes            text[]      not null,
    sharing           boolean     not null,
    workers           bigint      not null, -- members of the fleet
    created_at        timestamptz not null,
    removed           boolean     not null,
    constraint pool_pkey primary key (id)
);
