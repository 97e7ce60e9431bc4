-- The fences that stand: of each scope the highest.
create table fence (
    scope     text        collate "C" not null,
    up_to     bigint      not null, -- all that was issued at this position or before it is refused
    raised    bigint      not null, -- the position of its event
    raised_at timestamptz not null,
    constraint fence_pkey primary key (scope)
);
