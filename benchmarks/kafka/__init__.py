"""Kafka through one worker: a genuine Apache Kafka, librdkafka's and Java's producers and consumers.

run.py             modes in turn, case by case; the report
modes.py           the ways to the broker: direct, through Penstock with few rules, with a thousand
broker.py          the broker, on tmpfs
java.py            where Java and Apache Kafka's jars are
loads.py           the load generators and how to read what they print
load.c             the one for librdkafka
SyncProduce.java   one record at a time through Apache's producer
"""
