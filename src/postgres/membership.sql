-- The statement that makes the login $1 a member of the role $2; null where it is one. Quoted by the server, which knows
-- how: a grant takes no parameters.
select
    case
        when not pg_has_role($1::text::name, $2::text::name, 'member') then format('grant %I to %I', $2::text, $1::text)
    end as grant_statement
