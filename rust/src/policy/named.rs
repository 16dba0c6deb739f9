//! The strategies by name, and what a user changes about them.

use serde_json::Value;

use super::{
    AfterConfig, AimdConfig, BreakerConfig, Config, ConfigError, FixedConfig, GradientConfig, HedgeConfig, Jitter,
    LimitConfig, PacerConfig, PushBackConfig, RetryConfig, StragglerConfig,
};

/// The names of the strategies, simplest first.
pub const STRATEGIES: [&str; 5] = ["sequential", "parallel", "adaptive_ceiling", "hedged", "auto"];

/// The names of the profiles: sets of values that were published together.
pub const PROFILES: [&str; 1] = ["fmsr"];

/// Calls in flight of `parallel`, as published.
const PARALLEL: u32 = 2;
/// Seconds of silence of `hedged`, as published.
const HEDGE_AFTER_S: f64 = 8.0;

impl Config {
    /// A strategy by its name, with what the user wants otherwise.
    ///
    /// # Arguments
    /// - `strategy`: one of [`STRATEGIES`].
    /// - `max_concurrency`: attempts in flight at most; `sequential` and `parallel` take less.
    /// - `profile`: one of [`PROFILES`], whose values take the place of the strategy's own.
    /// - `overrides`: a JSON object that is laid over the policy's own, key by key and to any depth. An object of another
    ///   `kind` takes the place of the one that is there.
    ///
    /// # Errors
    /// Names that aren't known, keys that mean nothing, values out of their bounds.
    pub fn named(
        strategy: &str,
        max_concurrency: u32,
        profile: Option<&str>,
        overrides: Option<&str>,
    ) -> Result<Self, ConfigError> {
        super::config::whole("max_concurrency", max_concurrency, 1, super::limit::MOST)?;
        let mut config = plain(strategy, max_concurrency)?;
        match profile {
            None => {}
            Some("fmsr") => fmsr(&mut config),
            Some(other) => return Err(ConfigError::Profile(other.to_owned())),
        }
        if let Some(overrides) = overrides {
            let json = |e: serde_json::Error| ConfigError::Json(e.to_string());
            let mut value = serde_json::to_value(&config).map_err(json)?;
            lay_over(&mut value, serde_json::from_str(overrides).map_err(json)?);
            config = serde_json::from_value(value).map_err(json)?;
        }
        config.check()?;
        Ok(config)
    }
}

fn plain(strategy: &str, ceiling: u32) -> Result<Config, ConfigError> {
    let fixed = |n| LimitConfig::Fixed(FixedConfig { n });
    let aimd = AimdConfig { start: ceiling, floor: 1, ceiling, cut: 0.5, rise_after: 3, slow_start: false };
    Ok(match strategy {
        "sequential" => Config::of(strategy, fixed(1)),
        "parallel" => Config::of(strategy, fixed(PARALLEL.min(ceiling))),
        "adaptive_ceiling" => Config::of(strategy, LimitConfig::Aimd(aimd)),
        "hedged" => Config {
            hedge: HedgeConfig::After(AfterConfig { after_s: HEDGE_AFTER_S, copies: 1 }),
            ..Config::of(strategy, LimitConfig::Aimd(aimd))
        },
        "auto" => Config {
            pacer: Some(PacerConfig::default()),
            hedge: HedgeConfig::Straggler(StragglerConfig::default()),
            ..Config::of(strategy, LimitConfig::Gradient(GradientConfig::with(ceiling)))
        },
        other => return Err(ConfigError::Strategy(other.to_owned())),
    })
}

/// The values of the published experiment: 3 retries at 1, 2 and 4 s, 3 failures allowed, 30 s cooldown, and every 500 is
/// push-back.
fn fmsr(config: &mut Config) {
    config.retry =
        RetryConfig { attempts: 4, base_s: 1.0, most_s: 4.0, jitter: Jitter::None, ..RetryConfig::default() };
    config.breaker = Some(BreakerConfig { failures: Some(3), cooldown_s: 30.0, ..BreakerConfig::default() });
    config.push_back =
        PushBackConfig { statuses: vec![429, 500, 503, 529], overload: vec![502, 504], ..PushBackConfig::default() };
}

fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) if same_kind(base.get("kind"), over.get("kind")) => {
            for (key, value) in over {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn same_kind(base: Option<&Value>, over: Option<&Value>) -> bool {
    over.is_none() || base == over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(strategy: &str, overrides: &str) -> String {
        Config::named(strategy, 64, None, Some(overrides)).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_name_lists_the_choices() {
        let rule =
            "no strategy is named \"fastest\": the choices are sequential, parallel, adaptive_ceiling, hedged, auto";
        assert_eq!(Config::named("fastest", 1, None, None).unwrap_err().to_string(), rule);
        let rule = "no profile is named \"x\": the choices are fmsr";
        assert_eq!(Config::named("hedged", 1, Some("x"), None).unwrap_err().to_string(), rule);
    }

    #[test]
    fn overrides_are_laid_over_key_by_key_and_another_kind_takes_the_place() {
        let config =
            Config::named("hedged", 64, None, Some(r#"{"hedge":{"after_s":3},"retry":{"attempts":2}}"#)).unwrap();
        assert_eq!(config.hedge, HedgeConfig::After(AfterConfig { after_s: 3.0, copies: 1 }));
        assert_eq!((config.retry.attempts, config.retry.base_s), (2, 0.5));
        let config =
            Config::named("hedged", 64, None, Some(r#"{"limit":{"kind":"fixed","n":5},"breaker":null}"#)).unwrap();
        assert_eq!((config.limit, config.breaker), (LimitConfig::Fixed(FixedConfig { n: 5 }), None));
    }

    #[test]
    fn what_cant_be_says_which_value_and_which_rule() {
        for (overrides, rule) in [
            (r#"{"limit":{"kind":"fixed","n":0}}"#, "limit.n must be a whole number from 1 to 1000000, not 0"),
            (r#"{"limit":{"floor":65}}"#, "limit.floor must be a whole number from 1 to 64, not 65"),
            (r#"{"limit":{"start":0}}"#, "limit.start must be a whole number from 1 to 64, not 0"),
            (r#"{"limit":{"cut":1.5}}"#, "limit.cut must be a share from 0 to 1, not 1.5"),
            (r#"{"hedge":{"after_s":0}}"#, "hedge.after_s must be finite and above 0 seconds, not 0"),
            (r#"{"hedge":{"copies":9}}"#, "hedge.copies must be a whole number from 1 to 8, not 9"),
            (r#"{"retry":{"budget":1.1}}"#, "retry.budget must be a share from 0 to 1, not 1.1"),
            (r#"{"retry":{"attempts":0}}"#, "retry.attempts must be a whole number from 1 to 100, not 0"),
            (r#"{"retry":{"most_s":-1}}"#, "retry.most_s must be finite and above 0 seconds, not -1"),
            (r#"{"retry":{"per_s":0}}"#, "retry.per_s must be finite and above 0, not 0"),
            (r#"{"breaker":{"share":2}}"#, "breaker.share must be a share from 0 to 1, not 2"),
            (r#"{"push_back":{"statuses":[200]}}"#, "push_back.statuses holds statuses from 400 to 599, not 200"),
            (r#"{"attempt_timeout_s":3601}"#, "attempt_timeout_s must be at most 3600 seconds, not 3601"),
            (r#"{"call_timeout_s":0}"#, "call_timeout_s must be finite and above 0 seconds, not 0"),
            (r#"{"rates":{"rpm":0}}"#, "rates.rpm must be finite and above 0, not 0"),
            (r#"{"nodes":65}"#, "nodes must be a whole number from 1 to 64, not 65"),
            (r#"{"remembered":{"rate":-1}}"#, "remembered.rate must be finite and above 0, not -1"),
            (r#"{"retries":1}"#, "the policy can't be read: unknown field `retries`"),
            (r#"{"limit":{"kind":"fixed","n":1,"m":1}}"#, "the policy can't be read: unknown field `m`"),
            ("{", "the policy can't be read: EOF"),
        ] {
            let words = words("hedged", overrides);
            assert!(words.starts_with(rule), "{overrides}: {words}");
        }
        let none = Config::named("hedged", 0, None, None).unwrap_err().to_string();
        assert_eq!(none, "max_concurrency must be a whole number from 1 to 1000000, not 0");
    }

    #[test]
    fn a_policy_spelled_out_reads_back_as_itself() {
        for strategy in STRATEGIES {
            for profile in [None, Some("fmsr")] {
                let config = Config::named(strategy, 63, profile, None).unwrap();
                assert_eq!(Config::from_json(&config.to_json().unwrap()), Ok(config));
            }
        }
    }
}
