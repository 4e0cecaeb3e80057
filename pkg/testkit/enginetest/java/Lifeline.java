import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;

/**
 * Ends an engine when the test binary that started it is gone, however it went: the engine's standard
 * input is a pipe that only that binary holds, so its end is the end of the binary.
 */
final class Lifeline {
    private static final int TRIES = 5; // an engine that is still writing may put a file back

    private Lifeline() {}

    /** Watches standard input; at its end removes the folder and halts. Call it before the engine starts. */
    static void hold(Path folder) {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    // nothing is ever sent
                }
            } catch (IOException e) {
                // as good as the end
            }
            for (int i = 0; i < TRIES && Files.exists(folder); i++) {
                remove(folder);
            }
            Runtime.getRuntime().halt(1);
        }, "lifeline");
        watch.setDaemon(true);
        watch.start();
    }

    private static void remove(Path folder) {
        try (var paths = Files.walk(folder)) {
            paths.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        } catch (IOException | UncheckedIOException e) {
            System.err.println("lifeline: " + e);
        }
    }
}
