import java.nio.file.Path;
import org.elasticmq.server.Main;

/** Runs ElasticMQ with queues and messages on disk. Arguments: the port, and the folder of this engine. */
final class Sqs {
    private Sqs() {}

    public static void main(String[] args) {
        Path folder = Path.of(args[1]);
        Lifeline.hold(folder);
        set("rest-sqs.bind-hostname", "127.0.0.1");
        set("rest-sqs.bind-port", args[0]);
        set("node-address.host", "127.0.0.1");
        set("node-address.port", args[0]);
        set("rest-stats.enabled", "false");
        set("queues-storage.enabled", "true");
        set("queues-storage.path", folder.resolve("queues.conf").toString());
        set("messages-storage.enabled", "true");
        // By default H2 writes half a second late, and a killed engine would lose what it acknowledged.
        set("messages-storage.uri", "jdbc:h2:" + folder.resolve("messages") + ";WRITE_DELAY=0");
        Main.main(new String[0]);
        System.out.println("READY");
    }

    private static void set(String name, String value) {
        System.setProperty(name, value);
    }
}
