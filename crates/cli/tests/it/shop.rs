//! A node beside a real PostgreSQL that it has a target in: a table of orders, half of them of customer 1.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bailiwick_stand::Cluster;

use crate::support::{House, free_port, text};

pub(crate) struct Shop {
    pub(crate) house: House,
    pub(crate) cluster: Cluster,
    /// Where the gateway listens for sessions, if the configuration has one.
    #[cfg_attr(
        not(feature = "postgres-gateway"),
        expect(dead_code, reason = "there is no such gateway then")
    )]
    pub(crate) databases: u16,
}

impl Shop {
    /// A house without its node yet, and the database it is configured for. `$DATABASES` is filled in.
    pub(crate) fn new(config: &str) -> Shop {
        Shop::on(Cluster::start_with_passwords(), config)
    }

    /// The same with this server.
    pub(crate) fn on(cluster: Cluster, config: &str) -> Shop {
        let databases = free_port();
        let house = House::new(&config.replace("$DATABASES", &databases.to_string()));
        house.write("admin.url", &cluster.url("postgres"));
        let shop = Shop { house, cluster, databases };
        shop.admin("CREATE TABLE orders (id int PRIMARY KEY, customer_id int, total int, note text)");
        shop.admin("INSERT INTO orders SELECT i, 1 + i % 2, i, '' FROM generate_series(1, 1000) i");
        shop
    }

    /// Asks the server itself, as its administrator.
    pub(crate) fn admin(&self, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args([&self.cluster.url("postgres"), "-tAqc", sql]).stdin(Stdio::null());
        let asked = psql.output().unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap().trim().to_owned()
    }

    /// How many logins of ours the server has.
    pub(crate) fn logins(&self) -> String {
        self.admin("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'bw\\_%'")
    }

    pub(crate) fn soon(&self, what: &str, is: impl Fn(&Shop) -> bool) {
        let begun = Instant::now();
        while !is(self) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come about");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A task of the reporter about customer 1.
    pub(crate) fn task(&self) -> String {
        let words = ["--intent", "Report on customer 1", "--var", "customer=1"];
        text(&self.house.json(&[&["task", "open", "--agent", "reporter"], &words[..]].concat()), "task")
    }
}
