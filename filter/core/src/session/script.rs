//! The scripts that run in Redis: each touches one key, a session's hash, and is atomic there.
//!
//! | field | what it holds |
//! | --- | --- |
//! | `ver` | version of the record; counts every write |
//! | `rec` | the sealed record |
//! | `idle` | when it ends if it is not used any more, in milliseconds; only for listing sessions |
//! | `fence` | number of the latest lease; counts every lease |
//! | `owner` | who asked for that lease |
//! | `until` | when the lease ends, in Redis' own milliseconds; there while a refresh is under way |
//! | `lease` | for how many milliseconds its holder asked: one with other timeouts asks for more, or for less |
//! | `lapsed` | the lease ran out, and its holder has a last chance to write |
//! | `retry` | no refresh before this moment: the last one failed |
//! | `fails` | how many failed in a row |

/// Writes a new session. `rec`, milliseconds to live, `idle` → 1.
pub const CREATE: &str = "redis.call('HSET', KEYS[1], 'ver', '1', 'rec', ARGV[1], 'idle', ARGV[3]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
    return 1";

/// Records a use of a session. Returns the record if it is not the version that the caller knows.
/// `ver`, new `ver`, `rec`, milliseconds to live, `idle` → `[written]`, `[busy]`, `[changed, ver, rec]`, `[gone]`.
///
/// Does not write during a refresh: the refresh is bound to the version that it read.
pub const TOUCH: &str = "local h = redis.call('HMGET', KEYS[1], 'ver', 'rec', 'until') \
    if not h[1] or not h[2] then return {'gone'} end \
    if h[1] ~= ARGV[1] then return {'changed', h[1], h[2]} end \
    if h[3] then return {'busy'} end \
    redis.call('HSET', KEYS[1], 'ver', ARGV[2], 'rec', ARGV[3], 'idle', ARGV[5]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
    return {'written'}";

/// Ends a session whose idle timeout has passed, if it is still the version that the caller knows.
/// `ver` → `[ended]`, `[busy]`, `[changed, ver, rec]`, `[gone]`.
///
/// Redis deletes even when it is out of memory. So this script first makes a write that needs memory. If Redis refuses
/// that write, it may have refused to record a use as well, and the session is not deleted.
pub const END_UNUSED: &str = "local h = redis.call('HMGET', KEYS[1], 'ver', 'rec', 'until') \
    if not h[1] or not h[2] then return {'gone'} end \
    if h[1] ~= ARGV[1] then return {'changed', h[1], h[2]} end \
    if h[3] then return {'busy'} end \
    redis.call('HSET', KEYS[1], 'ver', h[1]) \
    redis.call('DEL', KEYS[1]) \
    return {'ended'}";

/// Takes the lease for a refresh.
/// `ver`, milliseconds of the lease, milliseconds of grace, owner → `[yours, fence]`, `[held, left]`, `[later, left]`,
/// `[changed, ver, rec]`, `[gone]`.
///
/// The holder of an expired lease gets a grace period to write its result: it may have been cut off from Redis after it
/// used the refresh token. An owner that asks again, because it got no reply, gets its own lease again. If
/// Redis' clock was set back, the rest of a lease looks too long. A rest longer than lease and grace counts as expired.
pub const ACQUIRE: &str = "local h = redis.call('HMGET', KEYS[1], 'ver', 'rec', 'until', 'lapsed', 'retry', 'owner', 'lease') \
    if not h[1] or not h[2] then return {'gone'} end \
    if h[1] ~= ARGV[1] then return {'changed', h[1], h[2]} end \
    local t = redis.call('TIME') \
    local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    local function left(field, longest) \
      local ms = field and tonumber(field) - now or 0 \
      if ms > longest then return 0 end \
      return ms \
    end \
    local wait = left(h[5], 60000) \
    if wait > 0 then return {'later', wait} end \
    local again = h[3] and not h[4] and h[6] == ARGV[4] \
    if h[3] and not again then \
      local held = left(h[3], (h[7] or ARGV[2]) + ARGV[3]) \
      if held > 0 then return {'held', held} end \
      if not h[4] then \
        redis.call('HSET', KEYS[1], 'lapsed', '1', 'until', now + ARGV[3]) \
        return {'held', tonumber(ARGV[3])} \
      end \
    end \
    local fence = redis.call('HINCRBY', KEYS[1], 'fence', again and 0 or 1) \
    redis.call('HSET', KEYS[1], 'until', now + ARGV[2], 'owner', ARGV[4], 'lease', ARGV[2]) \
    redis.call('HDEL', KEYS[1], 'lapsed', 'retry') \
    return {'yours', fence}";

/// Extends a lease. `fence`, milliseconds → 1, or 0 if it is held by another worker now.
pub const RENEW: &str = "local h = redis.call('HMGET', KEYS[1], 'fence', 'until') \
    if h[1] ~= ARGV[1] or not h[2] then return 0 end \
    local t = redis.call('TIME') \
    redis.call('HSET', KEYS[1], 'until', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]) \
    redis.call('HDEL', KEYS[1], 'lapsed') \
    return 1";

/// Writes the result of a refresh and releases the lease.
/// `fence`, `ver`, new `ver`, `rec`, milliseconds to live, `idle` → 1, or 0 if the session ended or another worker has
/// refreshed it.
pub const COMMIT: &str = "local h = redis.call('HMGET', KEYS[1], 'fence', 'ver') \
    if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] then return 0 end \
    redis.call('HSET', KEYS[1], 'ver', ARGV[3], 'rec', ARGV[4], 'idle', ARGV[6]) \
    redis.call('HDEL', KEYS[1], 'until', 'lapsed', 'retry', 'fails') \
    redis.call('PEXPIRE', KEYS[1], ARGV[5]) \
    return 1";

/// Releases the lease after a failed refresh and delays the next one. The delay doubles with each failure.
/// `fence`, first delay, longest delay → delay, or 0 if the lease is held by another worker now. All in milliseconds.
pub const RELEASE_AFTER: &str = "if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end \
    local fails = redis.call('HINCRBY', KEYS[1], 'fails', 1) \
    local pause = math.min(ARGV[2] * 2 ^ math.min(fails - 1, 16), tonumber(ARGV[3])) \
    local t = redis.call('TIME') \
    redis.call('HSET', KEYS[1], 'retry', t[1] * 1000 + math.floor(t[2] / 1000) + pause) \
    redis.call('HDEL', KEYS[1], 'until', 'lapsed') \
    return pause";

/// Ends a session that the provider refused to refresh, unless another worker has refreshed it in the meantime.
/// `fence`, `ver` → 1, or 0.
pub const END: &str = "local h = redis.call('HMGET', KEYS[1], 'fence', 'ver') \
    if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] then return 0 end \
    redis.call('DEL', KEYS[1]) \
    return 1";

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use oidc_gate_redis_model::resp::Reply;
    use oidc_gate_redis_model::server::Server;

    use super::*;

    const NOW: u64 = 1_767_225_600_000;

    /// Envoys with different timeouts, while a new configuration rolls out.
    #[test]
    fn a_lease_is_as_long_as_its_holder_asked_whoever_looks_at_it() {
        let redis = Server::new(None, Vec::new());
        redis.tamper(NOW, &["EVAL", CREATE, "1", "k", "record", "100000", "60000"]);
        let acquire = |now: u64, lease: &str, owner: &str| {
            redis.tamper(now, &["EVAL", ACQUIRE, "1", "k", "1", lease, "3000", owner])
        };
        let words = |word: &str, number| Reply::Array(vec![Reply::Bulk(word.into()), Reply::Integer(number)]);
        let (held, yours) = (|left| words("held", left), |fence| words("yours", fence));
        assert_eq!(acquire(NOW, "35000", "long"), yours(1));
        assert_eq!(acquire(NOW + 1000, "10000", "short"), held(34_000));
        assert_eq!(acquire(NOW + 34_999, "10000", "short"), held(1));
        assert_eq!(acquire(NOW + 35_000, "10000", "short"), held(3000), "a last chance to write");
        assert_eq!(acquire(NOW + 38_000, "10000", "short"), yours(2));
        assert_eq!(acquire(NOW + 38_001, "35000", "long"), held(9_999));
        // The clock was set back by a minute: no holder asked for a lease that long.
        assert_eq!(acquire(NOW - 22_000, "35000", "long"), held(3000));
    }
}
