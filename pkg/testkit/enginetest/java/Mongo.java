import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.h2.mvstore.MVStore;

/** Runs mongo-java-server over a file. Arguments: the port, and the folder of this engine. */
final class Mongo {
    private Mongo() {}

    public static void main(String[] args) {
        Path folder = Path.of(args[1]);
        Lifeline.hold(folder);
        Durable backend = new Durable(folder.resolve("mongo.h2"));
        backend.version(new Wire9());
        MongoServer server = new MongoServer(backend);
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind("127.0.0.1", Integer.parseInt(args[0]));
        System.out.println("READY");
    }

    /**
     * Writes what commands changed to the file before they are answered, so that a killed engine lost nothing it
     * acknowledged. Only whole commands are written: of one that is half done, a document could be there without its
     * entry in the index of ids. So commands run side by side, and a commit waits until none runs.
     */
    private static final class Durable extends H2Backend {
        private final ReadWriteLock halves = new ReentrantReadWriteLock();

        Durable(Path file) {
            super(new MVStore.Builder().fileName(file.toString()).autoCommitDisabled() // neither after a time
                .autoCommitBufferSize(Integer.MAX_VALUE / 1024).open()); // nor, in kilobytes, for what is unwritten
            getMvStore().setRetentionTime(0); // space is used again at once: the file stays as small as the data
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            halves.readLock().lock();
            try {
                return super.handleMessage(message);
            } finally {
                halves.readLock().unlock();
                alone(this::commit);
            }
        }

        @Override
        public void close() {
            alone(super::close);
        }

        private void alone(Runnable work) {
            halves.writeLock().lock();
            try {
                work.run();
            } finally {
                halves.writeLock().unlock();
            }
        }
    }

    /** The oldest version that the Go driver speaks with; the server by itself says an older one. */
    private static final class Wire9 implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }
}
