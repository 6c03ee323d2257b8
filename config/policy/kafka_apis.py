"""Kafka's requests by name and number (Apache Kafka 4.3 protocol), and the roles that stand for several of them."""

from __future__ import annotations

_IN_ORDER = """
Produce Fetch ListOffsets Metadata LeaderAndIsr StopReplica UpdateMetadata ControlledShutdown OffsetCommit OffsetFetch
FindCoordinator JoinGroup Heartbeat LeaveGroup SyncGroup DescribeGroups ListGroups SaslHandshake ApiVersions
CreateTopics DeleteTopics DeleteRecords InitProducerId OffsetForLeaderEpoch AddPartitionsToTxn AddOffsetsToTxn EndTxn
WriteTxnMarkers TxnOffsetCommit DescribeAcls CreateAcls DeleteAcls DescribeConfigs AlterConfigs AlterReplicaLogDirs
DescribeLogDirs SaslAuthenticate CreatePartitions CreateDelegationToken RenewDelegationToken ExpireDelegationToken
DescribeDelegationToken DeleteGroups ElectLeaders IncrementalAlterConfigs AlterPartitionReassignments
ListPartitionReassignments OffsetDelete DescribeClientQuotas AlterClientQuotas DescribeUserScramCredentials
AlterUserScramCredentials Vote BeginQuorumEpoch EndQuorumEpoch DescribeQuorum AlterPartition UpdateFeatures Envelope
FetchSnapshot DescribeCluster DescribeProducers BrokerRegistration BrokerHeartbeat UnregisterBroker
DescribeTransactions ListTransactions AllocateProducerIds ConsumerGroupHeartbeat ConsumerGroupDescribe
ControllerRegistration GetTelemetrySubscriptions PushTelemetry AssignReplicasToDirs ListConfigResources
DescribeTopicPartitions ShareGroupHeartbeat ShareGroupDescribe ShareFetch ShareAcknowledge AddRaftVoter
RemoveRaftVoter UpdateRaftVoter InitializeShareGroupState ReadShareGroupState WriteShareGroupState
DeleteShareGroupState ReadShareGroupStateSummary StreamsGroupHeartbeat StreamsGroupDescribe DescribeShareGroupOffsets
AlterShareGroupOffsets DeleteShareGroupOffsets
"""

API_NAMES: tuple[str, ...] = tuple(_IN_ORDER.split())
"""Number → name."""

API_KEYS: dict[str, int] = {name.lower(): key for key, name in enumerate(API_NAMES)} | {"offsets": 2}
"""Lower-case name → number; `offsets` is what Cilium's rules call ListOffsets."""

ALWAYS = frozenset((17, 18, 36))
"""Negotiation and authentication: part of every connection."""

TXN_OFFSET_COMMIT = 28
"""A producer's transaction says how far it has read what it consumes, so the topics are those of the consumer."""

STREAMS_GROUP_HEARTBEAT = 88

ADD_PARTITIONS_TO_TXN = 24
FIRST_OF_BROKERS = 4
"""From this version on it is for brokers, about the transactions of any producer (KIP-890)."""

PRODUCE = ALWAYS | {0, 3, 10, 22, 24, 25, 26, TXN_OFFSET_COMMIT, 60, 75}
CONSUME = ALWAYS | {1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 23, TXN_OFFSET_COMMIT, 60, 68, 75, 76, 78, 79}
"""Cilium's expansion, and what clients have come to need since."""

ROLES: dict[str, frozenset[int]] = {"produce": PRODUCE, "consume": CONSUME}

_BEFORE_60 = frozenset((0, 1, 2, 3, 8, 9, 19, 20, 21, 23, 24, 27, 28, 32, 33, 34, 35, 37, 43, 44, 45, 46, 47, 55))
WITH_TOPICS = _BEFORE_60 | {61, 68, 75, 76, 78, 79, *range(83, 89), 90, 91, 92}
"""Requests that name topics, so that a rule with a topic has a say on them; others it permits whatever its topic."""
