from kafka.record.memory_records import MemoryRecords as MemoryRecords
