-- Sealed outcomes are kept for a day.
delete from log.sealed_outcome where expires_at <= now()
