//! The bytes of a real Kafka 4.3.0 broker: the same requests, one after the other, get the same answers.

use super::*;

/// Name, request and answer of each exchange, in hex.
const EXCHANGES: &str = include_str!("../../../tests/fixtures/kafka-4.3.0/wire.txt");

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

#[tokio::test]
async fn answers_are_kafka_s_byte_for_byte() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let exchanges = EXCHANGES.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for exchange in exchanges {
        let [name, request, answer] = exchange.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let request = bytes_of(request);
        let length = u32::try_from(request.len()).unwrap().to_be_bytes();
        client.send_bytes(&[&length[..], &request].concat()).await;
        let found = client
            .frame()
            .await
            .unwrap_or_else(|| panic!("{name}: the connection ended"));
        let expected = bytes_of(answer);
        assert!(
            found == expected,
            "{name}\n here {found:02x?}\nKafka {expected:02x?}"
        );
        count += 1;
    }
    assert_eq!(count, 40, "as many as the file has");
}
