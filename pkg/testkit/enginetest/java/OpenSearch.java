import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.env.Environment;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.search.aggregations.matrix.MatrixAggregationPlugin;
import org.opensearch.transport.Netty4Plugin;

/** Runs one OpenSearch node. Arguments: the port of its HTTP API, the port between nodes, and the folder of this engine. */
final class OpenSearch extends Node {
    private static final List<Class<? extends Plugin>> MODULES = List.of(
            Netty4Plugin.class, ReindexPlugin.class, CommonAnalysisPlugin.class, PainlessPlugin.class,
            MapperExtrasPlugin.class, MatrixAggregationPlugin.class);

    private OpenSearch(Environment environment) {
        super(environment, MODULES, true);
    }

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[2]);
        Lifeline.hold(folder);
        Settings settings = Settings.builder()
                .put("path.home", folder)
                .put("cluster.name", "ocelot-test")
                .put("node.name", "test")
                .put("discovery.type", "single-node")
                .put("network.host", "127.0.0.1")
                .put("http.port", args[0])
                .put("transport.port", args[1])
                .put("cluster.routing.allocation.disk.threshold_enabled", false)
                .put("cluster.max_shards_per_node", 10_000)
                .put("action.destructive_requires_name", true)
                .put("node.processors", 2)
                .build();
        OpenSearch node = new OpenSearch(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), folder, () -> "test"));
        Runtime.getRuntime().addShutdownHook(new Thread(node::end));
        node.start();
        node.client().admin().cluster().prepareHealth().setWaitForYellowStatus().setTimeout(TimeValue.timeValueMinutes(1)).get();
        System.out.println("READY");
        new CountDownLatch(1).await(); // the node's own threads do not keep the process alive
    }

    private void end() {
        try {
            close();
        } catch (java.io.IOException e) {
            System.err.println("end: " + e);
        }
    }
}
