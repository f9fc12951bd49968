import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import io.confluent.parallelconsumer.PollContext;
import java.io.IOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Confluent's Parallel Consumer with a handler that upserts: one row per record, or one unnest per batch.
 *
 * <p>Arguments: bootstrap, topic, group, JDBC URL, records in a batch, batches in flight. Order by
 * key, offsets committed asynchronously, a connection for each batch in flight.
 */
public final class Upserts {
  private static final String MERGE =
      " on conflict (id) do update set app_id = excluded.app_id, last_seen = excluded.last_seen,"
          + " session_count = t.session_count + excluded.session_count, tags = excluded.tags";
  private static final String ONE =
      "insert into sessions as t (id, app_id, last_seen, session_count, tags)"
          + " values (?, ?, ?::text::timestamptz, ?, ?::text::jsonb)"
          + MERGE;
  private static final String MANY =
      "insert into sessions as t (id, app_id, last_seen, session_count, tags)"
          + " select i, a, l::timestamptz, s, g::jsonb"
          + " from unnest(?::bigint[], ?::text[], ?::text[], ?::bigint[], ?::text[])"
          + " u(i, a, l, s, g)"
          + MERGE;
  private static final ObjectMapper JSON = new ObjectMapper();

  private final boolean single;
  private final BlockingQueue<PreparedStatement> idle;

  private Upserts(String url, int batch, int inFlight) throws SQLException {
    single = batch == 1;
    idle = new ArrayBlockingQueue<>(inFlight);
    for (int i = 0; i < inFlight; i++) {
      Connection connection = DriverManager.getConnection(url);
      idle.add(connection.prepareStatement(single ? ONE : MANY));
    }
  }

  public static void main(String[] args) throws SQLException {
    int batch = Integer.parseInt(args[4]);
    int inFlight = Integer.parseInt(args[5]);
    Upserts upserts = new Upserts(args[3], batch, inFlight);
    Properties properties = new Properties();
    properties.put("bootstrap.servers", args[0]);
    properties.put("group.id", args[2]);
    properties.put("auto.offset.reset", "earliest");
    properties.put("enable.auto.commit", "false");
    properties.put("max.poll.records", "4000");
    properties.put("max.partition.fetch.bytes", String.valueOf(4 * 1024 * 1024));
    properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
    properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
    ParallelConsumerOptions<byte[], byte[]> options =
        ParallelConsumerOptions.<byte[], byte[]>builder()
            .ordering(ProcessingOrder.KEY)
            .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
            .maxConcurrency(inFlight)
            .batchSize(batch)
            .consumer(new KafkaConsumer<>(properties))
            .build();
    ParallelStreamProcessor<byte[], byte[]> processor =
        ParallelStreamProcessor.createEosStreamProcessor(options);
    processor.subscribe(List.of(args[1]));
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(() -> processor.closeDontDrainFirst(Duration.ofSeconds(5))));
    processor.poll(upserts::apply);
  }

  private void apply(PollContext<byte[], byte[]> context) {
    PreparedStatement statement = null;
    try {
      statement = idle.take();
      if (single) {
        one(statement, JSON.readTree(context.value()));
      } else {
        many(statement, context);
      }
      statement.executeUpdate();
    } catch (IOException | SQLException | InterruptedException problem) {
      throw new IllegalStateException(problem);
    } finally {
      if (statement != null) {
        idle.add(statement);
      }
    }
  }

  private static void one(PreparedStatement statement, JsonNode document) throws SQLException {
    statement.setLong(1, document.get("id").asLong());
    statement.setString(2, document.get("app_id").asText());
    statement.setString(3, document.get("last_seen").asText());
    statement.setLong(4, document.get("session_count").asLong());
    statement.setString(5, document.get("tags").toString());
  }

  /** Fold to one row per key, sorted: two batches never lock rows in different orders. */
  private static void many(PreparedStatement statement, PollContext<byte[], byte[]> context)
      throws IOException, SQLException {
    TreeMap<Long, ObjectNode> rows = new TreeMap<>();
    for (var record : (Iterable<io.confluent.parallelconsumer.RecordContext<byte[], byte[]>>)
        context.stream()::iterator) {
      ObjectNode newer = (ObjectNode) JSON.readTree(record.value());
      ObjectNode older = rows.put(newer.get("id").asLong(), newer);
      if (older != null) {
        long both = older.get("session_count").asLong() + newer.get("session_count").asLong();
        newer.put("session_count", both);
      }
    }
    int size = rows.size();
    Long[] ids = new Long[size];
    String[] apps = new String[size];
    String[] seen = new String[size];
    Long[] counts = new Long[size];
    String[] tags = new String[size];
    int i = 0;
    for (ObjectNode row : rows.values()) {
      ids[i] = row.get("id").asLong();
      apps[i] = row.get("app_id").asText();
      seen[i] = row.get("last_seen").asText();
      counts[i] = row.get("session_count").asLong();
      tags[i++] = row.get("tags").toString();
    }
    Connection connection = statement.getConnection();
    statement.setArray(1, connection.createArrayOf("bigint", ids));
    statement.setArray(2, connection.createArrayOf("text", apps));
    statement.setArray(3, connection.createArrayOf("text", seen));
    statement.setArray(4, connection.createArrayOf("bigint", counts));
    statement.setArray(5, connection.createArrayOf("text", tags));
  }
}
