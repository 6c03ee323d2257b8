import java.io.*;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.*;

/**
 * Apache's own codec as a judge. Lines of `request|response KEY VERSION HEX`, frames without their length; for each a
 * line: "ok CORRELATION-ID", or what is wrong. What is written again must be the same bytes.
 * With the argument "table": KEY NAME LOWEST HIGHEST for everything that brokers listen for.
 */
public class Codec {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 0) {
            table();
            return;
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out));
        for (String line; (line = lines.readLine()) != null;) {
            String[] words = line.split(" ");
            out.println(judge(words[0].equals("request"), Short.parseShort(words[1]), Short.parseShort(words[2]),
                HexFormat.of().parseHex(words.length > 3 ? words[3] : "")));
        }
        out.flush();
    }

    static void table() {
        for (ApiMessageType type : ApiMessageType.values())
            if (type.listeners().contains(ApiMessageType.ListenerType.BROKER))
                System.out.println(type.apiKey() + " " + type.name + " " + type.lowestSupportedVersion() + " "
                    + type.highestSupportedVersion(true));
    }

    static String judge(boolean isRequest, short key, short version, byte[] frame) {
        try {
            ApiMessageType type = ApiMessageType.fromApiKey(key);
            ByteBufferAccessor in = new ByteBufferAccessor(ByteBuffer.wrap(frame));
            short headerVersion = isRequest ? type.requestHeaderVersion(version) : type.responseHeaderVersion(version);
            ApiMessage header = isRequest ? new RequestHeaderData(in, headerVersion) : new ResponseHeaderData(in, headerVersion);
            ApiMessage body = isRequest ? type.newRequest() : type.newResponse();
            body.read(in, version);
            if (in.remaining() > 0) return in.remaining() + " bytes are left";
            String again = written(header, headerVersion, body, version);
            if (!again.equals(HexFormat.of().formatHex(frame))) return "Apache writes it as " + again;
            return "ok " + (isRequest ? ((RequestHeaderData) header).correlationId() : ((ResponseHeaderData) header).correlationId());
        } catch (Exception error) {
            return error.toString().replace('\n', ' ');
        }
    }

    static String written(ApiMessage header, short headerVersion, ApiMessage body, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        int size = header.size(cache, headerVersion) + body.size(cache, version);
        ByteBufferAccessor out = new ByteBufferAccessor(ByteBuffer.allocate(size));
        header.write(out, cache, headerVersion);
        body.write(out, cache, version);
        return HexFormat.of().formatHex(out.buffer().array());
    }
}
