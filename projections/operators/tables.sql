-- Operators, removed ones too.
create table operator (
    id          text        collate "C" not null,
    name        text        not null,
    role        text        not null,
    removed     boolean     not null,
    created_at  timestamptz not null,
    keys        text[]      not null, -- those that nobody has ended; none where the operator was removed
    keys_end_at timestamptz[] not null, -- of each of them: when it ends by itself, or null
    constraint operator_pkey primary key (id)
);
