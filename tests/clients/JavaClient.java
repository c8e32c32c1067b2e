import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Java's HttpClient, whose first request in the clear asks for h2c: it must get a plain answer, with POST too. */
public final class JavaClient {
    private static int failed = 0;

    private static void check(String name, boolean holds) {
        failed += holds ? 0 : 1;
        System.out.println((holds ? "ok   java: " : "FAIL java: ") + name);
    }

    public static void main(String[] arguments) throws Exception {
        URI base = URI.create(arguments[0] + "/");
        byte[] body = new byte[2_000_000];
        Arrays.fill(body, (byte) 7);

        HttpClient posting = HttpClient.newHttpClient();
        HttpRequest post = HttpRequest.newBuilder(base.resolve("/echo"))
            .POST(HttpRequest.BodyPublishers.ofByteArray(body)).build();
        HttpResponse<byte[]> echoed = posting.send(post, HttpResponse.BodyHandlers.ofByteArray());
        check("a first request that is a POST and asks for h2c", Arrays.equals(echoed.body(), body));
        check("is answered as HTTP/1.1", echoed.version() == HttpClient.Version.HTTP_1_1);

        HttpClient getting = HttpClient.newHttpClient();
        List<CompletableFuture<HttpResponse<String>>> answers = new ArrayList<>();
        for (int at = 0; at < 100; at++) {
            answers.add(getting.sendAsync(HttpRequest.newBuilder(base).build(), HttpResponse.BodyHandlers.ofString()));
        }
        boolean all = true;
        for (CompletableFuture<HttpResponse<String>> answer : answers) {
            all &= answer.join().statusCode() == 200;
        }
        check("100 requests at once", all);

        HttpRequest expecting = HttpRequest.newBuilder(base.resolve("/echo")).expectContinue(true)
            .version(HttpClient.Version.HTTP_1_1).POST(HttpRequest.BodyPublishers.ofString("expected")).build();
        check("Expect: 100-continue",
            getting.send(expecting, HttpResponse.BodyHandlers.ofString()).body().equals("expected"));
        System.exit(failed == 0 ? 0 : 1);
    }
}
