import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.CountDownLatch;
import org.elasticmq.server.Main;
import org.slf4j.LoggerFactory;

/**
 * Runs ElasticMQ with queues and messages on disk, or in memory if the variable SQS_MESSAGES is "memory". Arguments:
 * the port, and the folder of this engine.
 */
final class Sqs {
    private Sqs() {}

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[1]);
        Lifeline.hold(folder);
        set("rest-sqs.bind-hostname", "127.0.0.1");
        set("rest-sqs.bind-port", args[0]);
        set("node-address.host", "127.0.0.1");
        set("node-address.port", args[0]);
        set("rest-stats.enabled", "false");
        CountDownLatch restored = new CountDownLatch(0);
        if (!"memory".equals(System.getenv("SQS_MESSAGES"))) {
            restored = keepOnDisk(folder.resolve("messages"));
        }
        Main.main(new String[0]);
        restored.await();
        System.out.println("READY");
    }

    /** Keeps queues and messages in a file. Returns what waits until those of an earlier run are there. */
    private static CountDownLatch keepOnDisk(Path messages) throws SQLException {
        // By default H2 writes half a second late, and a killed engine would lose what it acknowledged.
        String uri = "jdbc:h2:" + messages + ";WRITE_DELAY=0";
        set("messages-storage.enabled", "true");
        set("messages-storage.uri", uri);
        boolean isNew = Files.notExists(Path.of(messages + ".mv.db"));
        return restored(isNew ? 0 : queues(uri));
    }

    private static void set(String name, String value) {
        System.setProperty(name, value);
    }

    /** How many queues an earlier run left. One that was killed before its first table left none. */
    private static int queues(String uri) throws SQLException {
        try (Connection connection = DriverManager.getConnection(uri, "", "");
                Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE IF NOT EXISTS queue (name VARCHAR UNIQUE, data BLOB)"); // as ElasticMQ does
            try (ResultSet rows = statement.executeQuery("SELECT COUNT(*) FROM queue")) {
                rows.next();
                return rows.getInt(1);
            }
        }
    }

    /**
     * Counts down as ElasticMQ restores queues. It serves before it has: a queue is absent at first, then empty, and
     * only then has its messages. That it has them, it tells nobody but its log.
     */
    private static CountDownLatch restored(int queues) {
        CountDownLatch latch = new CountDownLatch(queues);
        AppenderBase<ILoggingEvent> counter = new AppenderBase<>() {
            @Override
            protected void append(ILoggingEvent event) {
                if (event.getFormattedMessage().startsWith("Restored ")) {
                    latch.countDown();
                }
            }
        };
        counter.start();
        ((Logger) LoggerFactory.getLogger("org.elasticmq.actor.queue.QueueActor")).addAppender(counter);
        return latch;
    }
}
