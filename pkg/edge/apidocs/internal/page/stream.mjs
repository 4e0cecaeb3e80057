const answer = await fetch(process.env.OCELOT_URL + "/api/v1/logs/stream/tickets", {
  method: "POST",
  headers: {
    "Authorization": "Bearer " + process.env.OCELOT_TOKEN,
    "X-Tenant-ID": process.env.OCELOT_TENANT,
  },
});
const { url } = await answer.json();

const socket = new WebSocket(url);
socket.onopen = () => socket.send('{"action":"subscribe"}');
socket.onmessage = ({ data }) => console.log(data);
