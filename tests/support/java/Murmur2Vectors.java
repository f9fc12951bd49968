import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/**
 * Prints what Kafka's own Java client makes of keys, one a line: the key in hex, the hash, and the
 * partition of 1, 6, 64 and 1000.
 */
public class Murmur2Vectors {
    public static void main(String[] arguments) {
        for (String text : new String[] {"", "a", "app-7", "Größe", "日本", "🦀"}) {
            print(text.getBytes(StandardCharsets.UTF_8));
        }
        Random random = new Random(1);
        for (int length = 0; length < 40; length++) {
            for (int of = 0; of < 3; of++) {
                byte[] key = new byte[length];
                random.nextBytes(key);
                print(key);
            }
        }
    }

    private static void print(byte[] key) {
        StringBuilder line = new StringBuilder(HexFormat.of().formatHex(key));
        line.append(' ').append(Utils.murmur2(key));
        for (int partitions : new int[] {1, 6, 64, 1000}) {
            line.append(' ').append(BuiltInPartitioner.partitionForKey(key, partitions));
        }
        System.out.println(line);
    }
}
