//! `/v1/netguard/addresses`: networks that operators block by hand, or except from every block.

use axum::extract::State;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use crate::command::Done;
use crate::domain::command::Command;
use crate::domain::netguard::{Listed, Listing, NetguardCommand, NotAListing};
use crate::domain::roll::Roll;
use crate::http::body::{Asked, CommandJson};
use crate::http::caller::{Caller, MayManageFleet};
use crate::http::openapi::{IdempotencyKey, Reason, Refusals};
use crate::http::problem::Problem;
use crate::http::query::Pairs;
use crate::http::view::{Changed, time};
use crate::http::wish::{Answered, Sending};
use crate::http::{App, schema};

/// A network for the list.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewAddress {
    /// An address, or a network of /8 (IPv6: /16) or smaller.
    #[schema(schema_with = schema::address_or_cidr)]
    address: String,
    /// `blocked` if not given; `excepted`: it is never blocked, whoever is isolated there.
    #[schema(schema_with = schema::netguard_listing_or_null)]
    listing: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// Which network goes. By hand, since a derived parameter with a schema of its own is never a required one.
pub(in crate::http) struct AddressQuery;

impl IntoParams for AddressQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let address = ParameterBuilder::new()
            .name("address")
            .parameter_in(ParameterIn::Query)
            .required(Required::True)
            .description(Some("The address or network, as it was listed."))
            .schema(Some(schema::address_or_cidr()));
        vec![address.build()]
    }
}

/// A network and what is listed of it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ListedAddress {
    #[schema(schema_with = schema::cidr)]
    network: String,
    /// Null: it is on no list.
    #[schema(schema_with = schema::netguard_listing_or_null)]
    listing: Option<&'static str>,
    /// The position at which it was listed.
    #[schema(schema_with = schema::position_or_null)]
    added: Option<u64>,
    #[schema(schema_with = schema::time_or_null)]
    added_at: Option<String>,
}

/// Blocks a network for every netguard, or excepts it from every block.
#[utoipa::path(
    post, path = "/v1/netguard/addresses", tag = "netguard", request_body = NewAddress, params(IdempotencyKey),
    responses((status = 200, body = Changed<ListedAddress>), Refusals)
)]
pub(in crate::http) async fn add(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewAddress>,
) -> Result<Answered, Problem> {
    let network = network(&value.address)?;
    let listing = value.listing.as_deref().map_or(Ok(Listing::Blocked), str::parse);
    let listing = listing.map_err(|error: NotAListing| Problem::invalid("listing", error.to_string()))?;
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let command = Command::Netguard(NetguardCommand::Add { network, listing });
    sending.send(command, move |roll, done| view(roll, done, network)).await
}

/// Takes a network off the list. What was blocked by it flows again, unless an isolated worker is there.
#[utoipa::path(
    delete, path = "/v1/netguard/addresses", tag = "netguard", params(AddressQuery, Reason, IdempotencyKey),
    responses((status = 200, body = Changed<ListedAddress>), Refusals)
)]
pub(in crate::http) async fn remove(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    mut query: Pairs,
    asked: Asked,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(query.one("reason")?)?;
    let address = query.one("address")?;
    query.end()?;
    let network = network(&address.ok_or_else(|| Problem::invalid("address", "name the network"))?)?;
    let command = Command::Netguard(NetguardCommand::Remove { network });
    sending.send(command, move |roll, done| view(roll, done, network)).await
}

fn view(roll: &Roll, done: &Done<'_>, network: IpNet) -> Value {
    let listed = roll.listed_network(&network);
    let view = ListedAddress {
        network: network.to_string(),
        listing: listed.map(|listed| listed.listing.as_str()),
        added: listed.map(|listed| listed.added),
        added_at: listed.map(|listed: &Listed| time(listed.added_at)),
    };
    json!(Changed::by(done, view))
}

/// An address is the network of it alone. `trunc`: 10.1.2.3/8 means 10.0.0.0/8, and is shown as that.
fn network(text: &str) -> Result<IpNet, Problem> {
    let read = text.parse::<IpNet>().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()));
    let read =
        read.ok_or_else(|| Problem::invalid("address", "an address or a network: `10.1.2.3`, `2001:db8::/32`"))?;
    Ok(read.trunc())
}
