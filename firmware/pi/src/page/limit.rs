use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that are told apart; an attacker with more addresses shares one allowance.
const MOST_CLIENTS: usize = 1024;

/// Who asks: the other end of the connection, whatever the request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client(IpAddr);

impl Client {
    const OTHERS: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// A host has a whole /64 of IPv6, and can change within it at will.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            v4 => Self(v4),
        }
    }
}

/// An allowance a client, which fills again with time.
#[derive(Debug)]
pub(super) struct Allowance {
    most: f64,
    per_second: f64,
    left: Mutex<HashMap<Client, Left>>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    amount: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(most: u32, per_second: f64) -> Self {
        Self {
            most: f64::from(most),
            per_second,
            left: Mutex::default(),
        }
    }

    /// Uses one up.
    ///
    /// # Errors
    /// None is left: when to come again.
    pub(super) fn take(&self, client: Client, now: Instant) -> Result<(), Duration> {
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let refilled = |left: &Left| {
            let seconds = now.saturating_duration_since(left.at).as_secs_f64();
            (left.amount + seconds * self.per_second).min(self.most)
        };
        if all.len() >= MOST_CLIENTS && !all.contains_key(&client) {
            all.retain(|_, left| refilled(left) < self.most);
        }
        let client = match all.len() >= MOST_CLIENTS && !all.contains_key(&client) {
            true => Client::OTHERS,
            false => client,
        };
        let left = all.entry(client).or_insert(Left {
            amount: self.most,
            at: now,
        });
        left.amount = refilled(left);
        left.at = now;
        if left.amount < 1.0 {
            let missing = 1.0 - left.amount;
            return Err(Duration::from_secs_f64(missing / self.per_second));
        }
        left.amount -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> Client {
        Client::of(IpAddr::V4(Ipv4Addr::from_bits(n + 1)))
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let allowance = Allowance::new(2, 0.5);
        let start = Instant::now();
        assert!(allowance.take(client(0), start).is_ok());
        assert!(allowance.take(client(0), start).is_ok());
        assert_eq!(
            allowance.take(client(0), start),
            Err(Duration::from_secs(2))
        );
        assert!(
            allowance.take(client(1), start).is_ok(),
            "another's is full"
        );
        let later = start + Duration::from_secs(2);
        assert!(allowance.take(client(0), later).is_ok());
        assert!(allowance.take(client(0), later).is_err());
    }

    #[test]
    fn a_flood_of_addresses_takes_no_memory_and_shares_an_allowance() {
        let allowance = Allowance::new(2, 0.001);
        let now = Instant::now();
        let taken = (0..10_000).filter(|&n| allowance.take(client(n), now).is_ok());
        assert_eq!(taken.count(), MOST_CLIENTS + 2);
        assert!(allowance.left.lock().unwrap().len() <= MOST_CLIENTS + 1);
        // Whose allowance is full again is forgotten, which costs him nothing.
        let later = now + Duration::from_secs(10_000);
        assert!(allowance.take(client(20_000), later).is_ok());
        assert_eq!(allowance.left.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| Client::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
